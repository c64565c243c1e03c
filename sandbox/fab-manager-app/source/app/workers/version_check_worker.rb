# Upstream's asks the vendor's hub for news.
class VersionCheckWorker
  include Sidekiq::Worker

  def perform
    Sidekiq.logger.info "version #{FabManager::VERSION}"
  end
end
