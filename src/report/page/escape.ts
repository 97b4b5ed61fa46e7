/** Text within HTML: an element's, or a quoted attribute's. */
export const escapeText = (text: string): string =>
  text.replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);
