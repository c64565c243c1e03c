# A job that takes a while. Interrupted, it is lost: it is not begun twice.
class ExportWorker
  include Sidekiq::Worker
  sidekiq_options retry: false

  def perform(id, seconds)
    export = Export.find(id)
    return if export.started_at

    export.update!(started_at: Time.current)
    sleep seconds
    export.update!(finished_at: Time.current)
  end
end
