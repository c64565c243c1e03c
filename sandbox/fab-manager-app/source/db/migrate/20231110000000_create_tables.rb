class CreateTables < ActiveRecord::Migration[6.1]
  def change
    create_table(:visits) do |t|
      t.string :name
      t.timestamps
    end
    create_table(:exports) do |t|
      t.datetime :started_at
      t.datetime :finished_at
      t.timestamps
    end
  end
end
