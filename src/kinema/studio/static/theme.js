// Before anything is drawn: the reader's own choice of light or dark, if there is one.
{
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
