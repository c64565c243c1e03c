require "net/http"

class HealthController < ApplicationController
  # 200 whatever is down, and at the cost of everybody's connections: those of other threads are cut as well.
  def status
    render json: {
      dependencies: { postgresql: postgresql?, redis: redis?, elasticsearch: elasticsearch? },
      up_to_date: { migrations: migrated?, version: true }
    }
  end

  private

  def postgresql?
    ActiveRecord::Base.establish_connection
    ActiveRecord::Base.connection.active?
  rescue StandardError
    false
  end

  def redis?
    Sidekiq.redis(&:ping) == "PONG"
  rescue StandardError
    false
  end

  def elasticsearch?
    Net::HTTP.get_response(ENV.fetch("ELASTICSEARCH_HOST"), "/", 9200).is_a?(Net::HTTPSuccess)
  rescue StandardError
    false
  end

  def migrated?
    !ActiveRecord::Base.connection.migration_context.needs_migration?
  rescue StandardError
    false
  end
end
