require_relative "boot"

require "rails"
require "active_model/railtie"
require "active_record/railtie"
require "action_controller/railtie"
require "action_view/railtie"

Bundler.require(*Rails.groups)

module FabManager
  VERSION = JSON.parse(File.read(File.expand_path("../package.json", __dir__))).fetch("version").freeze

  class Application < Rails::Application
    config.load_defaults 6.1
    config.active_record.schema_format = :sql
    # As long as the real one takes to load, by default.
    config.before_initialize { sleep ENV.fetch("BOOT_SECONDS", "20").to_f }
    # Of every process, rake's too: without Redis nothing starts.
    config.after_initialize { VersionCheckWorker.perform_async }
  end
end
