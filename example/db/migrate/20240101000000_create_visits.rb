class CreateVisits < ActiveRecord::Migration[6.1]
  def change
    create_table :visits do |t|
      t.string :name, null: false, limit: 80
      t.datetime :greeted_at
      t.timestamps
    end
    add_index :visits, :created_at
  end
end
