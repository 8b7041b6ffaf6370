for (const box of document.querySelectorAll(".gate")) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const reading = box.querySelector(".reading"), words = box.querySelector(".words");
  let at = null;
  const show = (span) => {
    if (!span || span === at) return;
    if (at) at.classList.remove("at");
    (at = span).classList.add("at");
    const values = data.rows.map((row) => row[span.dataset.n]);
    reading.replaceChildren();
    const word = document.createElement("strong");
    word.textContent = "\u201c" + span.textContent.trim() + "\u201d";
    reading.append(word);
    values.forEach((value, n) => {
      const bar = document.createElement("div"), fill = document.createElement("b");
      bar.className = "bar";
      fill.style.setProperty("--v", Math.min(1, value / data.top));
      bar.append(fill, data.labels[n], document.createElement("br"), value === 0 ? "silent" : value.toFixed(3));
      reading.append(bar);
    });
  };
  const find = (event) => show(event.target.closest(".words span"));
  words.addEventListener("pointerover", find);
  words.addEventListener("click", find);
}
