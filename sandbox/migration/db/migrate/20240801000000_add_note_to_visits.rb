class AddNoteToVisits < ActiveRecord::Migration[6.1]
  def change
    add_column :visits, :note, :string
  end
end
