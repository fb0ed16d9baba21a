// A quiz is Markdown: each choice is a <details> of the question's name, which opens onto what is
// said of it. Here an opened choice gets its colour, and the first choices are counted.
const countQuiz = choices => {
  if (!choices.length) return
  const question = choice => choice.getAttribute('name')
  const isRight = choice => choice.querySelector('strong').textContent.startsWith('Right')
  const questions = new Set(choices.map(question)).size
  const firstChoices = new Map()
  const score = document.createElement('p')
  score.className = 'quiz-score'
  score.setAttribute('role', 'status')
  choices[choices.length - 1].after(score)
  for (const choice of choices) choice.addEventListener('toggle', () => {
    if (!choice.open) return
    const right = isRight(choice)
    choice.classList.add(right ? 'right' : 'wrong')
    if (!firstChoices.has(question(choice))) firstChoices.set(question(choice), right)
    const first = [...firstChoices.values()].filter(Boolean).length
    const open = questions - firstChoices.size
    score.textContent = `${first} right at the first try` + (open ? `, ${open} of ${questions} questions to go.` : ` of ${questions}.`)
  })
}
document.addEventListener('DOMContentLoaded', () => {
  countQuiz([...document.querySelectorAll('article details[name^="quiz-"]')])
})
// In the browser edition a cell's Markdown comes once the notebook is read, and JupyterLab lets a
// choice's class through, but not its name.
const countInNotebook = () => {
  for (const cell of document.querySelectorAll('.jp-RenderedMarkdown')) {
    const choices = [...cell.querySelectorAll('details[class^="quiz-"]:not([name])')]
    for (const choice of choices) choice.setAttribute('name', choice.className)
    countQuiz(choices)
  }
}
if (document.getElementById('jupyter-config-data'))
  new MutationObserver(countInNotebook).observe(document, {childList: true, subtree: true})
