# Made by `rails db:migrate`; what a new database is created from.
ActiveRecord::Schema.define(version: 2024_01_01_000000) do
  # These are extensions that must be enabled in order to support this database
  enable_extension "plpgsql"

  create_table "visits", force: :cascade do |t|
    t.string "name", limit: 80, null: false
    t.datetime "greeted_at"
    t.datetime "created_at", precision: 6, null: false
    t.datetime "updated_at", precision: 6, null: false
    t.index ["created_at"], name: "index_visits_on_created_at"
  end
end
