address = "redis://#{ENV.fetch('REDIS_HOST')}:6379"
Sidekiq.configure_server { |config| config.redis = { url: address } }
Sidekiq.configure_client { |config| config.redis = { url: address } }
