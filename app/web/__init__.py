"""The page: plain HTML, CSS and JavaScript modules, served as they are by `app.api.web`. No Python but this line."""
