namespace :assets do
  desc "Compile app/packs and plugins into public/packs"
  task precompile: :environment do
    require "packs"
    Packs.compile(Rails.root, FabManager::VERSION)
  end
end
