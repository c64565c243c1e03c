class VisitsController < ApplicationController
  def index
    @visits = Visit.latest
    @count = Visit.count
  end

  def create
    visit = Visit.new(params.require(:visit).permit(:name))
    respond_to do |format|
      if visit.save
        format.html { redirect_to root_path }
        format.json { render json: visit, status: :created }
      else
        format.html { redirect_to root_path }
        format.json { render json: visit.errors, status: :unprocessable_entity }
      end
    end
  end
end
