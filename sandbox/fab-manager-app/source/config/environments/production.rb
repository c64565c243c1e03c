Rails.application.configure do
  config.cache_classes = true
  config.eager_load = true
  config.consider_all_requests_local = false
  config.public_file_server.enabled = ENV["RAILS_SERVE_STATIC_FILES"].present?
  config.action_controller.default_url_options = { host: ENV.fetch("DEFAULT_HOST") }
  config.log_level = ENV.fetch("LOG_LEVEL", "info").to_sym
  config.logger = ActiveSupport::Logger.new($stdout) if ENV["RAILS_LOG_TO_STDOUT"].present?
  config.active_support.deprecation = :notify
  config.active_record.dump_schema_after_migration = false
end
