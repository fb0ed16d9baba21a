// Runs Python beside the page "Your own DICOM file", so that the page stays alive. First what reads
// a header, then what makes a picture of the pixels: each step is answered as soon as it can be.
const HEADER = ['pydicom']
const PICTURE = ['numpy', 'pandas', 'pillow', 'joblib']
const say = text => postMessage({status: text})
let settings, python, code

async function start(base) {
  settings = await (await fetch(base + 'browser.json')).json()
  importScripts(settings.pyodide + 'pyodide.js')
  python = await loadPyodide({indexURL: settings.pyodide})
  await python.loadPackage(wheels(base, name => HEADER.includes(name)))
  const source = await (await fetch('your_file.py')).text()
  python.FS.writeFile('your_file.py', source)
  code = python.pyimport('your_file')
}
const wheels = (base, wanted) =>
  Object.entries(settings.wheels).filter(([name]) => wanted(name)).map(([, file]) => base + file)

async function startPicture(base) {
  const needed = name => !HEADER.includes(name)
  await python.loadPackage([...PICTURE, ...wheels(base, needed)])
  // loadPackage only logs what it could not load; and pydicom looks for NumPy once, when imported
  python.runPython(`
    import sys
    for name in list(sys.modules):
        if name.partition('.')[0] in ('pydicom', 'your_file'): del sys.modules[name]
    import numpy, pandas, PIL, medtut.dicom`)
  code = python.pyimport('your_file')
}
let started, pictureStarted
onmessage = async ({data: {base, name, bytes}}) => {
  try {
    say('Loading Python: about 20 MB at the first visit ...')
    await (started ??= start(base))
    const path = name.replace(/[\\/]/g, '_')
    python.FS.writeFile(path, new Uint8Array(bytes))
    postMessage({header: JSON.parse(code.header(path))})
    say('The header is below. Loading what makes the picture: about 11 MB at the first visit ...')
    await (pictureStarted ??= startPicture(base))
    postMessage({picture: JSON.parse(code.picture(path))})
    postMessage({identifying: JSON.parse(code.identifying(path))})
    python.FS.unlink(path)
    say('Done. Nothing left your browser.')
  } catch (e) {
    if (!code) started = undefined
    pictureStarted = undefined
    const lines = String(e.message ?? e).trim().split('\n')
    // of Python's traceback the line that names the error
    postMessage({failed: lines.findLast(line => /^\w*Error: /.test(line)) ?? lines[0]})
  }
}
