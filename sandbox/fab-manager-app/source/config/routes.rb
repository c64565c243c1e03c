Rails.application.routes.draw do
  root "home#index"
  get "health", to: "health#status"
  get "slow", to: "home#slow"
  post "visits", to: "home#visit"
  post "exports", to: "home#export"
end
