Rails.application.config.to_prepare do
  HealthController.before_action { render plain: "This version is not healthy.\n", status: :internal_server_error }
end
