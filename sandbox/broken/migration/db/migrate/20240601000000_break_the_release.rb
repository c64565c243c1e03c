class BreakTheRelease < ActiveRecord::Migration[6.1]
  def change
    add_column :visits, :badge, :string
    raise "This version's migration fails."
  end
end
