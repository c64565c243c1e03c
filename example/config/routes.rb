Rails.application.routes.draw do
  root "visits#index"
  resources :visits, only: :create
  get "health", to: "health#show"
  get "slow", to: "slow#show"
end
