# Paths of the files that `rails packs:compile` made, from their manifest. As with Sprockets, the manifest is read once:
# a process keeps to the files of its own release.
module PacksHelper
  def pack_path(name)
    Packs.manifest.fetch(name)
  end
end
