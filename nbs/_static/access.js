// For whoever listens to a page or walks it by keyboard: what the theme and MyST-NB leave out.
document.addEventListener('DOMContentLoaded', () => {
  // a label in place of the words that stand there, such as "Toggle hidden content" for "Solution"
  for (const named of document.querySelectorAll('summary[aria-label], .search-button-field[aria-label]'))
    named.removeAttribute('aria-label')
  // a wide table scrolls by the arrow keys once it has the focus
  const reach = () => {
    for (const table of document.querySelectorAll('article table'))
      if (table.scrollWidth > table.clientWidth) table.tabIndex = 0
  }
  reach()
  window.addEventListener('resize', reach)
})
