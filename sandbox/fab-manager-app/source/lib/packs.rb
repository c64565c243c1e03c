require "digest"
require "fileutils"
require "json"
require "zlib"

# What Webpack makes of app/packs and plugins/: files named by their content, each with a .gz beside it, and a manifest
# of a fixed name.
module Packs
  LOCALES = %w[RAILS_LOCALE MOMENT_LOCALE SUMMERNOTE_LOCALE ANGULAR_LOCALE FULLCALENDAR_LOCALE].freeze

  module_function

  # Compiles into root/public/packs. Raises KeyError where a locale is not in the environment.
  def compile(root, version)
    words = { "@VERSION@" => version, "@LOCALES@" => LOCALES.map { |name| ENV.fetch(name) }.join(" "),
              "@PLUGINS@" => Dir.children(root.join("plugins")).sort.join(" ") }
    paths = root.join("app/packs").children.sort.to_h do |source|
      text = source.read.gsub(/@[A-Z]+@/, words)
      extension = source.extname
      path = "/packs/#{extension.delete('.')}/#{source.basename(extension)}-#{Digest::MD5.hexdigest(text)[0, 20]}#{extension}"
      write(root.join("public#{path}"), text)
      [source.basename.to_s, path]
    end
    root.join("public/packs/manifest.json").write(JSON.pretty_generate(paths))
  end

  def write(file, text)
    file.dirname.mkpath
    file.write(text)
    Zlib::GzipWriter.open("#{file}.gz") { |gz| gz.write(text) }
  end
end
