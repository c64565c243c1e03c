class ApplicationController < ActionController::Base
  # Nobody logs in here, so there is no session that a forged request could use.
  protect_from_forgery with: :null_session
end
