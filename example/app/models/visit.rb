class Visit < ApplicationRecord
  validates :name, presence: true, length: { maximum: 80 }

  scope :latest, -> { order(created_at: :desc, id: :desc).limit(10) }
  scope :waiting, -> { where(greeted_at: nil) }
end
