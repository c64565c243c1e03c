require "digest"
require "fileutils"
require "json"

# The second half of the assets: app/packs/* compiled to public/packs/<name>-<digest>.<ext> with a manifest of a fixed
# name, the layout that Webpacker has.
module Packs
  SOURCE = File.expand_path("../app/packs", __dir__)
  TARGET = File.expand_path("../public/packs", __dir__)
  MANIFEST = File.join(TARGET, "manifest.json")

  module_function

  # The path of each pack by its name: {"application.js" => "/packs/application-0123456789abcdef.js"}.
  def manifest
    @manifest ||= JSON.parse(File.read(MANIFEST)).freeze
  end

  # Compiles every pack for the given version and locale, and writes the manifest last.
  def compile(version:, locale:)
    FileUtils.mkdir_p(TARGET)
    paths = Dir.children(SOURCE).sort.to_h do |name|
      content = File.read(File.join(SOURCE, name)).gsub("@VERSION@", version).gsub("@LOCALE@", locale)
      extension = File.extname(name)
      file = "#{File.basename(name, extension)}-#{Digest::SHA256.hexdigest(content)[0, 16]}#{extension}"
      File.write(File.join(TARGET, file), content)
      [name, "/packs/#{file}"]
    end
    File.write("#{MANIFEST}.new", JSON.pretty_generate(paths))
    File.rename("#{MANIFEST}.new", MANIFEST)
  end
end
