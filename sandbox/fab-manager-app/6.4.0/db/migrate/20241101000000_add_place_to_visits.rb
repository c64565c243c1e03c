class AddPlaceToVisits < ActiveRecord::Migration[6.1]
  def change
    add_column :visits, :place, :string
  end
end
