// Streams of the API are one JSON object a line, and arrive in pieces that end anywhere.

/** Puts pieces of text together to whole lines. */
export class Lines {
  #rest = "";

  /** The lines that are whole with this piece, in order, without empty ones. */
  push(piece: string): string[] {
    const parts = (this.#rest + piece).split("\n");
    this.#rest = parts.pop() ?? "";
    return parts.map((line) => line.trim()).filter((line) => line !== "");
  }
}
