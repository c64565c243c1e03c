document.getElementById("packs").textContent = "@VERSION@ @LOCALES@ @PLUGINS@";
