# A request that stays in flight for a while: what a rollout must not cut off.
class SlowController < ApplicationController
  LONGEST = 30.0

  # GET /slow?seconds=3
  def show
    seconds = params.fetch(:seconds, 1).to_f.clamp(0.0, LONGEST)
    sleep seconds
    render plain: "#{Logbook::VERSION} answered after #{seconds} s\n"
  end
end
