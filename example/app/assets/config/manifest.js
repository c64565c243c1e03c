//= link_directory ../stylesheets .css
//= link_directory ../javascripts .js
