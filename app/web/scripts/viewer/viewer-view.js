/** The view of `/photos/{id}`: one photo or video, over the grid. */

import { registerView } from "../shell/router.js";

registerView("/photos/{id}", { overlay: true, open() {}, close() {} });
