// Stands for the parts of noVNC that the page has no use for (build.mjs names them).

export default class Absent {}
