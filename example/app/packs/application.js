// The footer tells which release's files the browser got.
document.querySelector("footer").textContent = "packs @VERSION@ (@LOCALE@)";
