"""The page: plain HTML, CSS and JavaScript modules, which `app.api.web` serves as one script, without comments and layout. No Python but this line."""
