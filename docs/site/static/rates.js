// The slider below lesson 07. The page holds the curves of every rate; this shows those of the chosen one.
for (const figure of document.querySelectorAll("figure.rates")) {
  const slider = figure.querySelector("input");
  const parts = figure.querySelectorAll("[data-rate]");
  const sentence = () => figure.querySelector(".rates-said .on");

  const show = () => {
    for (const part of parts) part.classList.toggle("on", part.dataset.rate === slider.value);
    slider.setAttribute("aria-valuetext", sentence().querySelector("b").textContent);
  };

  figure.querySelector(".rates-control").hidden = false; // without this script there is nothing to drag
  slider.addEventListener("input", show);
  show();
}
