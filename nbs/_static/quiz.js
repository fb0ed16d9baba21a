// A quiz is Markdown: each choice is a <details> of the question's name, which opens onto what is
// said of it. Here an opened choice gets its colour, and the first choices are counted.
document.addEventListener('DOMContentLoaded', () => {
  const choices = [...document.querySelectorAll('article details[name^="quiz-"]')]
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
})
