// The page "Your own DICOM file": a file is chosen or dropped, read by Python in a worker, and shown.
document.addEventListener('DOMContentLoaded', () => {
  const place = document.getElementById('your-file')
  if (!place) return
  const part = name => place.querySelector('.your-file-' + name)
  const statics = new URL(place.dataset.static, document.baseURI)
  const base = new URL('../lite/', statics).href
  let worker
  const element = (tag, text, parent) => {
    const made = document.createElement(tag)
    if (text) made.textContent = text
    parent?.append(made)
    return made
  }
  // values come out of a file of unknown origin: always as text, never as HTML
  const table = (head, rows, parent) => {
    const made = element('table', '', parent)
    const row = element('tr', '', element('thead', '', made))
    for (const name of head) element('th', name, row).scope = 'col'
    const body = element('tbody', '', made)
    for (const values of rows) {
      const line = element('tr', '', body)
      for (const value of values) element('td', value, line)
    }
  }
  const fill = (name, title) => {
    part(name).replaceChildren()
    element('h2', title, part(name))
    return part(name)
  }
  const show = {
    status: text => { part('status').textContent = text },
    failed: reason => {
      part('status').textContent = `This could not be loaded: ${reason}. Python comes from ` +
        'cdn.jsdelivr.net: is there a network, and does it let that address through?'
    },
    header: ({rows, error}) => {
      const into = fill('header', 'Header')
      if (error) return element('p', error, into)
      table(['Tag', 'VR', 'Name', 'Value'], rows, into)
    },
    picture: ({png, frames, error, notes}) => {
      const into = fill('picture', 'Picture')
      if (error) element('p', error, into)
      else {
        const image = element('img', '', into)
        image.src = 'data:image/png;base64,' + png
        image.alt = 'The picture of your file, as medtut shows it'
        if (frames > 1) element('p', `The middle one of ${frames} frames.`, into)
      }
      for (const note of notes) element('p', note, into)
    },
    identifying: ({rows, risks, error, ...counts}) => {
      const into = fill('identifying', 'What identifies the patient')
      if (error) return element('p', error, into)
      table(['Element', 'Value', 'What the profile does'], rows, into)
      if (counts.private) element('p', `Besides, ${counts.private} private elements, which may hold anything.`, into)
      for (const risk of risks) element('p', `Look at the picture: ${risk}.`, into)
    }}
  const read = async file => {
    for (const name of ['header', 'picture', 'identifying']) part(name).replaceChildren()
    if (!worker) {
      worker = new Worker(new URL('your_file_worker.js', statics))
      worker.onmessage = ({data}) => { for (const kind in data) show[kind](data[kind]) }
      worker.onerror = e => show.failed(e.message)
    }
    worker.postMessage({base, name: file.name, bytes: await file.arrayBuffer()})
  }
  const field = place.querySelector('input')
  field.addEventListener('change', () => { if (field.files.length) read(field.files[0]) })
  place.querySelector('button').addEventListener('click', async () => {
    const name = 'phantom_chest.dcm'
    read(new File([await (await fetch(base + 'files/' + name)).arrayBuffer()], name))
  })
  const drop = part('drop')
  drop.addEventListener('dragover', e => { e.preventDefault(); drop.classList.add('over') })
  drop.addEventListener('dragleave', () => drop.classList.remove('over'))
  drop.addEventListener('drop', e => {
    e.preventDefault()
    drop.classList.remove('over')
    if (e.dataTransfer.files.length) read(e.dataTransfer.files[0])
  })
})
