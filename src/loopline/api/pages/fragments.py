"""Links as MLflow's client prints them: behind the address of a project, `#/experiments/ID/runs/ID`.

No server is told what stands behind a `#`, so that a script of a few lines on the first page goes on to the page that is meant. It
is the only one that the page may run: its digest stands in the page's Content-Security-Policy.
"""

from __future__ import annotations

import base64
import hashlib

from loopline.api.pages import style
from loopline.api.pages.html import Html, element

_SCRIPT = r"""
const project = document.currentScript.dataset.project;
function go() {
  const found = /^#\/experiments\/(\d+)(?:\/runs\/([0-9A-Z]{26}))?(?:\/|$)/.exec(location.hash);
  if (found) location.replace((found[2] ? "/runs/" + found[2] : "/groups/" + found[1]) + "?project=" + encodeURIComponent(project));
}
addEventListener("hashchange", go);
go();
"""

_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
POLICY = f"{style.POLICY}; script-src 'sha256-{_DIGEST}'"
"""What the page with the script may do."""


def script(project: str) -> Html:
    """The script, for the page of a project."""
    return element("script", Html(_SCRIPT), data_project=project)
