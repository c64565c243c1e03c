require_relative "boot"

require "rails"
require "active_model/railtie"
require "active_record/railtie"
require "action_controller/railtie"
require "action_view/railtie"
require "sprockets/railtie"

Bundler.require(*Rails.groups)

module Logbook
  # The one place the version is written is the file VERSION.
  VERSION = File.read(File.expand_path("../VERSION", __dir__)).strip.freeze

  class Application < Rails::Application
    config.load_defaults 6.1
    config.i18n.default_locale = ENV.fetch("APP_LOCALE", "en").to_sym
    config.i18n.available_locales = %i[en fr]
    config.i18n.load_path += Dir[root.join("config/locales/*.yml")]
  end
end
