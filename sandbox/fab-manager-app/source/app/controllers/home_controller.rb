class HomeController < ApplicationController
  def index
    @visits = Visit.count
  end

  # GET /slow?seconds=3: in the database, for a connection that is cut is noticed there.
  def slow
    seconds = params.fetch(:seconds, 1).to_f.clamp(0.0, 30.0)
    ActiveRecord::Base.connection.execute("SELECT pg_sleep(#{seconds})")
    render plain: "#{FabManager::VERSION} answered after #{seconds} s\n"
  end

  def visit
    Visit.create!(params.require(:visit).permit(:name))
    redirect_to root_path
  end

  # POST /exports?seconds=20: prints the id; the row is finished when the job is.
  def export
    export = Export.create!
    ExportWorker.perform_async(export.id, params.fetch(:seconds, 20).to_f)
    render plain: "#{export.id}\n", status: :created
  end
end
