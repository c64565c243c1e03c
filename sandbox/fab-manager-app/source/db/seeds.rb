Visit.find_or_create_by!(name: "the administrator")
