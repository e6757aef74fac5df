"""The API's own pages: the specification, and Swagger UI over it, from this machine alone."""

from importlib.resources import files

from flask import Blueprint, Response, abort, current_app

from services.api.specification import specification_of

surface = Blueprint("documentation", __name__)

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Promptreel API</title>
  <link rel="icon" href="docs/assets/swagger.svg">
  <link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
  <div id="page"></div>
  <script src="docs/assets/swagger-ui-bundle.js"></script>
  <script src="docs/assets/start.js"></script>
</body>
</html>
"""

# validatorUrl: Swagger UI would otherwise send the specification's address to a public service.
_START = """\
window.ui = SwaggerUIBundle({
  url: "openapi.yaml",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""

_HOUR = "public, max-age=3600"

# What the page loads, by name: nothing else of the package can be asked for.
_ASSETS = {
    "swagger-ui-bundle.js": ("js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": ("css", "text/css; charset=utf-8"),
    "swagger.svg": ("images", "image/svg+xml"),
}


@surface.get("/openapi.yaml")
def specification() -> Response:
    """The OpenAPI specification."""
    return Response(specification_of(current_app), content_type="application/yaml")


@surface.get("/docs")
def page() -> Response:
    """Swagger UI."""
    return Response(_PAGE, content_type="text/html; charset=utf-8")


@surface.get("/docs/assets/<name>")
def asset(name: str) -> Response:
    """What Swagger UI is made of."""
    if name == "start.js":
        content, content_type = _START.encode(), "text/javascript; charset=utf-8"
    elif name in _ASSETS:
        folder, content_type = _ASSETS[name]
        package = files("flask_openapi3_swagger").joinpath("templates", "swagger")
        content = package.joinpath(folder, name).read_bytes()
    else:
        abort(404)
    return Response(content, content_type=content_type, headers={"Cache-Control": _HOUR})
