// The name field is where a visitor starts.
document.querySelector("form input[type=text]").focus();
