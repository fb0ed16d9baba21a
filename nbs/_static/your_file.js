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
  const clear = () => {
    for (const name of ['header', 'picture', 'identifying']) part(name).replaceChildren()
  }
  // the last file's number: answers on those before it are not shown
  let last = 0
  const read = async file => {
    clear()
    const number = ++last
    let bytes
    try { bytes = await file.arrayBuffer() } catch (e) {
      return show.status(`${file.name} could not be opened by the browser: ${e.message}`)
    }
    if (!worker) {
      worker = new Worker(new URL('your_file_worker.js', statics))
      worker.onmessage = ({data: {number, ...said}}) => {
        if (number === last) for (const kind in said) show[kind](said[kind])
      }
      worker.onerror = e => show.failed(e.message)
    }
    worker.postMessage({base, number, name: file.name, bytes})
  }
  const field = place.querySelector('input')
  field.addEventListener('change', () => { if (field.files.length) read(field.files[0]) })
  place.querySelector('button').addEventListener('click', async () => {
    const name = 'phantom_chest.dcm'
    read(new File([await (await fetch(base + 'files/' + name)).arrayBuffer()], name))
  })
  // why what was dropped is not read, '' if it is one file
  const refusal = (files, folders) => {
    if (!files.length) return 'That was no file. Drag one here from a folder of your machine, or choose it.'
    if (files.length > 1)
      return `${files.length} files were dropped, and none was read: this page shows one at a time. ` +
        'Drop one of them. For whole folders, install medtut.'
    if (folders.length)
      return `${files[0].name} is a folder, and this page reads one file. Open the folder, and drop ` +
        'one of the files in it. For whole folders, install medtut.'
    return ''
  }
  const take = transfer => {
    const items = [...transfer.items].filter(item => item.kind === 'file')
    const folders = items.filter(item => item.webkitGetAsEntry()?.isDirectory)
    const files = [...transfer.files]
    const refused = refusal(files, folders)
    if (!refused) return read(files[0])
    last++
    clear()
    show.status(refused)
  }
  // Anywhere on the page: a file that misses the field would open in the page's place
  const drop = part('drop')
  const isForUs = e => e.dataTransfer.types.includes('Files') || drop.contains(e.target)
  const mark = over => drop.classList.toggle('over', over)
  window.addEventListener('dragover', e => {
    if (!isForUs(e)) return
    e.preventDefault()
    mark(true)
  })
  window.addEventListener('dragleave', e => { if (!e.relatedTarget) mark(false) })
  window.addEventListener('drop', e => {
    mark(false)
    if (!isForUs(e)) return
    e.preventDefault()
    take(e.dataTransfer)
  })
})
