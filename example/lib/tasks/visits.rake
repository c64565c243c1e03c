namespace :visits do
  desc "Greet visitors as they sign, until told to stop"
  task greet: :environment do
    require "greeter"
    Greeter.new.run
  end
end
