class Export < ApplicationRecord
end
