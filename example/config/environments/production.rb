Rails.application.configure do
  config.cache_classes = true
  config.eager_load = true
  config.consider_all_requests_local = false
  config.action_controller.perform_caching = true

  # nginx serves public/; without a proxy in front, set RAILS_SERVE_STATIC_FILES.
  config.public_file_server.enabled = ENV["RAILS_SERVE_STATIC_FILES"].present?

  config.assets.compile = false
  config.assets.js_compressor = :terser
  config.assets.css_compressor = :sass

  config.force_ssl = ENV["FORCE_SSL"].present?

  config.log_level = ENV.fetch("RAILS_LOG_LEVEL", "info").to_sym
  config.log_tags = [:request_id]
  if ENV["RAILS_LOG_TO_STDOUT"].present?
    config.logger = ActiveSupport::TaggedLogging.new(ActiveSupport::Logger.new($stdout))
  end

  config.active_support.deprecation = :notify
  config.active_record.dump_schema_after_migration = false
end
