# As Webpacker does in production: read once. A process without packs starts, and has no page.
manifest = Rails.root.join("public/packs/manifest.json")
Rails.application.config.packs = manifest.exist? ? JSON.parse(manifest.read) : {}
