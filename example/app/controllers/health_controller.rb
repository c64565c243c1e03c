# Answers 200 whenever the process serves requests; the fields say what state it is in.
class HealthController < ApplicationController
  def show
    render json: {
      name: "Logbook",
      status: "ok",
      version: Logbook::VERSION,
      postgresql: postgresql?,
      migrations: migrated?
    }
  end

  private

  def postgresql?
    ActiveRecord::Base.connection.select_value("SELECT 1") == 1
  rescue ActiveRecord::ActiveRecordError
    false
  end

  # True when the database has every migration of this version.
  def migrated?
    !ActiveRecord::Base.connection.migration_context.needs_migration?
  rescue ActiveRecord::ActiveRecordError
    false
  end
end
