# The background worker: greets every visitor who waits, then looks again.
class Greeter
  PAUSE = 1 # seconds between two looks

  def initialize
    @stopped = false
    %w[INT TERM].each { |signal| trap(signal) { @stopped = true } }
  end

  def run
    puts "greeter #{Logbook::VERSION} started"
    until @stopped
      greet
      sleep PAUSE
    end
    puts "greeter #{Logbook::VERSION} stopped"
  end

  private

  # The web server creates the tables at its first start, perhaps after the worker's.
  def greet
    Visit.waiting.find_each do |visit|
      visit.update!(greeted_at: Time.current)
      puts "greeted #{visit.name}"
    end
  rescue ActiveRecord::ActiveRecordError => e
    warn "greeter: #{e.message.lines.first}"
  end
end
