"Package metadata: `settings.ini` says it, this hands it to setuptools; `pyproject.toml` says the rest"
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser()
config.read(root/'settings.ini', encoding='utf-8')
settings = config['DEFAULT']

def requirements(extra=''): return settings[f'{extra}requirements'].split()

extras = {extra: requirements(f'{extra}_') for extra in ('train', 'archive', 'lessons', 'real', 'dev')}
extras['lessons'] += extras['train'] + extras['archive']

setup(
    description=settings['description'],
    author=settings['author'],
    license_expression=settings['license'],
    keywords=settings['keywords'].split(),
    classifiers=[
        'Intended Audience :: Education',
        'Intended Audience :: Healthcare Industry',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3 :: Only',
        'Topic :: Scientific/Engineering :: Medical Science Apps.',
    ],
    long_description=(root/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    python_requires='>=' + settings['min_python'],
    install_requires=requirements(),
    extras_require=extras,
    packages=find_packages(include=['medtut*']),
    package_data={'medtut': ['py.typed']},
    entry_points={'console_scripts': ['medtut = medtut.cli:main'], 'nbdev': ['medtut = medtut._modidx:d']},
)
