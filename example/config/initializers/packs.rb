require "packs"
