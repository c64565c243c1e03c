namespace :packs do
  desc "Compile app/packs into public/packs"
  task compile: :environment do
    Packs.compile(version: Logbook::VERSION, locale: I18n.default_locale.to_s)
  end

  desc "Remove public/packs/*"
  task :clobber do
    rm_rf Dir["public/packs/*"]
  end
end

Rake::Task["assets:precompile"].enhance(["packs:compile"])
Rake::Task["assets:clobber"].enhance(["packs:clobber"])
